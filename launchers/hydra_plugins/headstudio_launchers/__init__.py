"""How runs reach machines: Hydra's launchers of this package, and a profile for each kind of cluster in conf/."""
