"""The Streamlit app, the only package that imports Streamlit.

The URL holds the page's state. Every run parses the view from the URL, sets the widgets from the view and draws; a
widget's callback writes the changed view to the URL. So Back, Forward, reloading and sharing a link show the same page.
"""
