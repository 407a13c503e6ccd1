"""What other scanners and cameras show, drawn into training patches: one artefact a file."""
