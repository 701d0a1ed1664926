"""Results of statements: data types, frames, Arrow."""
