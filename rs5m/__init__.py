"""RS5M and GeoRSCLIP rebuilt line by line: the code that the chapters of the book import."""

__version__ = "0.1.0"
