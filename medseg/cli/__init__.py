"""The command line (Typer). Errors become messages and exit statuses in `app.main`."""
