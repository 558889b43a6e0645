"""Files that are no SparseCtrl encoder: each is refused in one sentence about the file."""

from __future__ import annotations

import pytest
from support.matrix import only_at
from support.wrong_guides import WRONG_FILES, right_encoder, write_wrong

from motion_module import MotionFileError
from motion_module.sparse_ctrl.load import load_sparse_ctrl

state = pytest.fixture(scope="module", name="state")(right_encoder)


@pytest.mark.parametrize("what", only_at(WRONG_FILES, 0, 5, 11))
def test_each_is_refused_in_a_sentence_about_the_file(what, state, tmp_path):
    path, code = write_wrong(tmp_path, what, state), WRONG_FILES[what][1]
    with pytest.raises(MotionFileError) as refused:
        load_sparse_ctrl(path)
    assert path.name in refused.value.message
    assert code in (None, refused.value.code)
    assert len(WRONG_FILES) == 20
