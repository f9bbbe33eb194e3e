"""The installed program. The wheel installs this one package, called `ct2pet`.

`lib`, `ct2pet_app` and `main.py` are inside its folder and keep their names. Only processes of ct2pet search this
folder: other programs in the same environment may have a `lib` of their own.
"""
