"""One renderer for everyone: context, template, reasons, grounding, and parsing of answers."""
