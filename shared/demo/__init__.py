"""The bundled demo corpus: declarations of Lean core in the layout of a data repository."""
