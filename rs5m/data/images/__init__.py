"""What is an image, what is not and why, and the one rule by which any image becomes 8-bit RGB.

Chapter: pub11. Evaluation, tuning, PUB11 and RS3 all decode by `read`, so that one file looks the
same to each of them.

The rule (`RULE` in one line):

* 8-bit grey, RGB, palette and CMYK: as they are
* alpha: only where the file declares it (PNG, WebP and GIF transparency; a TIFF's ExtraSamples 1
  or 2); transparent pixels lie over white. In a TIFF the declared alpha must also look like a
  mask, at least half of it 0 or full: GDAL declares any fourth band of bytes so, near infrared too
* 16 bits, signed and 32-bit integers, floats: band by band, the 2nd percentile becomes 0 and the
  98th 255, over the valid pixels (finite and below 1e38, not the file's nodata value, not
  transparent). Where the two are equal, minimum and maximum take their place; a constant band and
  invalid pixels are 0. An image without a valid pixel is left out
* one band is grey, three are red, green and blue, and so are the first three of four
* any number of bands that the file itself names (red, green, blue by their descriptions or by the
  TIFF's photometric tag; B04, B03, B02): those. Other numbers of bands, and a TIFF of several
  equal pages, are left out: nothing says which band to show
* Sentinel-2's bands in integers (named B04, B03, B02, or the files of a BigEarthNet patch): one
  scale for all, 0 to 2750 (a reflectance of 0.275), by which EuroSAT's RGB images were made.
  [NOT IMPLEMENTED] the offset of -1000 in products since 2022: the bands do not state it

Of the formats only seven reach a parser, so Pillow's exotic ones (EPS starts ghostscript) never
run. What Pillow has no mode for is read by rasterio. EXIF orientation and colour profiles are
ignored: pictures from above have no upright, and camera tags are rare on them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "reading": ["ANIMATED", "FORMATS", "RULE", "check", "decode", "read", "sentinel2"],
        "raster": ["COLOURS", "DRIVERS", "PERCENTILES", "REFLECTANCE", "SENTINEL2"],
        "headers": ["DECODING", "LIMITS", "Limits", "jpeg_size", "webp_pixels"],
    },
)
