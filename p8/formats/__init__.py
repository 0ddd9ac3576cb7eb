"""Foreign files: one module a tool, and P8's own lossless archive."""
