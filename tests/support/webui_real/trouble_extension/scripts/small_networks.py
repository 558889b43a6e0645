"""Makes room for small models in the ControlNet extension, which knows the widths of the real ones only."""

import sys

import torch
from modules import script_callbacks


def take_small_control_models(_demo, _app):
    """ControlNet reads the widths of its models from no file: it gets those of the small checkpoint."""
    guess = sys.modules.get("scripts.controlnet_model_guess")
    if guess:
        guess.controlnet_default_config.update(model_channels=32, context_dim=64)
        guess.controlnet_sdxl_mid_config.update(model_channels=32, context_dim=320, adm_in_channels=448)
        take_small_sdxl_adapters(sys.modules["scripts.enums"])
        take_small_unions(sys.modules["scripts.cldm"])
        take_small_instant_ids(sys.modules["scripts.ipadapter.ipadapter_model"])
        torch.serialization.add_safe_globals([sys.modules["scripts.preprocessor.legacy.processor"].FaceIdPlusInput])


def take_small_sdxl_adapters(enums):
    """An IP-Adapter is for SDXL by the width of its conditions, and its file numbers transformers as deep as SDXL's."""
    former, versions = enums.StableDiffusionVersion.transformer_ids, enums.StableDiffusionVersion
    adapters = sys.modules["scripts.ipadapter.ipadapter_model"].IPAdapterModel
    load, block = adapters.load, enums.UnetBlockType

    def of(kind, blocks, depth):
        return [enums.TransformerID(kind, number, index, 0) for number in blocks for index in range(depth)]

    def small_ids(version):
        if version != versions.SDXL:
            return former.fget(version)
        down = of(block.INPUT, (4, 5), 2) + of(block.INPUT, (7, 8), 3)
        up = of(block.OUTPUT, (0, 1, 2), 3) + of(block.OUTPUT, (3, 4, 5), 2)
        return enums.TransformerIDResult(down, up, of(block.MIDDLE, (0,), 3))

    def load_small(state_dict, model_name):
        made = load(state_dict, model_name)
        made.is_sdxl = made.is_sdxl or "sdxl" in model_name
        return made

    versions.transformer_ids, adapters.load = property(small_ids), staticmethod(load_small)


def take_small_unions(cldm):
    """The transformer of a union ControlNet is always 320 wide: it gets the width of the model."""
    kind = cldm.ControlNet
    former = kind.__init__

    def build(self, *args, **kwargs):
        former(self, *args, **kwargs)
        if self.task_embedding is None:
            return
        width = self.model_channels
        self.task_embedding = torch.nn.Parameter(torch.empty(self.num_control_type, width))
        self.transformer_layes = torch.nn.Sequential(cldm.ResBlockUnionControlnet(width, 8))
        self.spatial_ch_projs = torch.nn.Linear(width, width)

    kind.__init__ = build


def take_small_instant_ids(adapters):
    """The resampler of an InstantID is always 1280 wide: it gets the width of the conditions."""

    def build(self, image_emb_dim=512, num_tokens=16):
        width = self.cross_attention_dim
        return adapters.Resampler(width, 4, 64, 1, num_tokens, image_emb_dim, width, 4)

    adapters.IPAdapterModel.init_proj_instantid = build


script_callbacks.on_app_started(take_small_control_models)
