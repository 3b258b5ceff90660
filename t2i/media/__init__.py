"""Picture files: pixels, what a file says about itself, signatures, contact sheets.

pixels          images.py: between tensors and files; image_file.py: a file in memory, checked and decoded; contrast.py:
                what stands out from its surroundings
metadata        record.py: how a picture was made; metadata.py writes and reads it in each format, parts.py takes a
                file apart; xmp.py; other_tools.py: what other programs write
origin          marks.py: what says that a model made it; c2pa.py: signatures
sheets          sheet.py, fonts.py
"""
