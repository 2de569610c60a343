"""Messages to people when something happened, through apprise. Off without an address; a failure stops nothing."""

from candletune.notify.notifier import Event, Notifier

__all__ = ["Event", "Notifier"]
