"""The Streamlit app: the only room that imports Streamlit.

The URL is the truth. Every run reads the question from it, sets the widgets from the question and draws;
a widget's callback writes the changed question back to it. So Back, Forward, reloading and a fresh browser
all show what the address bar says.
"""
