"""One renderer for dataset, training and inference: template, reasons, parsing, grounding, chat format."""
