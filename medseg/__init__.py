"""From biomedical images to a segmentation and on to a diagnosis. Research use only.

The Python face is loaded when it is first used: `load_model`, `segment`, `extract_features`, `diagnose`, `evaluate`,
see `medseg.api`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "diagnose", "evaluate", "extract_features", "load_model", "segment"]

if TYPE_CHECKING:
    from medseg.api import diagnose, evaluate, extract_features, load_model, segment


def __getattr__(name: str) -> Any:
    """Load the Python face at its first use: `import medseg` itself stays fast."""
    if name not in __all__:
        raise AttributeError(f"module 'medseg' has no attribute {name!r}")
    from medseg import api

    return getattr(api, name)
