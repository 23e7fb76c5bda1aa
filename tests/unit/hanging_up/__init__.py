"""A database engine for Django whose server can hang up."""
