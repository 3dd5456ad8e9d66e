"""The sections of a report, one module each: `ORDER`, `TITLE`, `render` and `markdown`."""
