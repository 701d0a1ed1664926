"""The Load page: a file is dropped, checked, mapped with pickers, loaded, and opened in Explore."""
