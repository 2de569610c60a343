"""What people think of the reasons: which ones they judge, their answers on disk, and the rates that follow."""
