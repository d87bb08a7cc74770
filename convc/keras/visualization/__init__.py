"""Pictures of what a network computes and of how its training went."""

from convc.keras.visualization.curves import plot_history, read_log
from convc.keras.visualization.features import FeatureMaps, feature_maps, filters
from convc.keras.visualization.sheets import sheet

__all__ = ["FeatureMaps", "feature_maps", "filters", "plot_history", "read_log", "sheet"]
