"""The dashboard: a read-only web page of one running instance, for whoever has to answer for it.

`cdnblock serve --dashboard 127.0.0.1:9460` shows it. Every page is a plain value made in a thread (`pages/`), put into
words of one language (`wording`) by a template, and sent with headers that let nothing in and nothing out (`answers`).
Nothing here changes anything: there is no route that could.
"""
