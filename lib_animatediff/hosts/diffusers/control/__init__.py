"""ControlNets and T2I adapters on a diffusers pipeline: their files, networks and images."""
