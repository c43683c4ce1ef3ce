"""Run folders."""

from omegaconf import OmegaConf


def make_config(results_dir, **changes):
    cfg = OmegaConf.create(
        {
            "name": "demo",
            "seed": 3,
            "data_dir": "/data",
            "results_dir": str(results_dir),
            "force": False,
            "dataset": {"size": 32},
            "augmentation": {"name": "reldrop", "alpha": 0.4},
            "trainer": {"epochs": 5},
            "machine": {"accelerator": "cpu", "cache_dir": "${data_dir}/cubs"},
            "tracking": {"mode": "disabled"},
        }
    )
    OmegaConf.set_struct(cfg, True)
    for key, value in changes.items():
        OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
    return cfg
