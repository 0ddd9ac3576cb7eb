"""Foreign files, one module a tool; what people read; and P8's own archives and backups, which are bundles."""
