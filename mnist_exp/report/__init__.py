"""HTML pages of a run, a sweep and a comparison, each one self-contained file.

Reads what runs wrote; trains nothing and imports no matplotlib. Imports gradients and the packages
below it. ``libraries`` holds the chart library as published on npm (`libraries/README.md`),
``static`` the styles and scripts of the pages, ``templates`` their HTML.
"""
