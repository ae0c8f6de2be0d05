"""The tiny projects of the end-to-end tests."""

from tests.end_to_end.conftest import (
    copies,
    copy_of,
    copy_serving,
    copy_waiting,
    promoted_folder,
    serving_folder,
    trained_folder,
    waiting_folder,
)

__all__ = ["copies", "copy_of", "copy_serving", "copy_waiting", "promoted_folder", "serving_folder", "trained_folder", "waiting_folder"]
