"""Scores of pictures, and the gate that compares them with a baseline.

request.py, run.py            a whole run of `t2i score`; draw_suite.py draws the pictures of a suite
suite.py, task_scores.py      prompts with what a picture of them must show; scores by task (GenEval)
picture_files.py              which pictures are scored, and their prompts
extractors.py, features.py    networks, and what they find in each picture; feature_cache.py keeps it
extractor_options.py          what may be said of them
preference.py                 PickScore, as one more network
pixel_stats.py                sharpness, clipping, blank and duplicate pictures
pixel_metrics.py              PSNR and SSIM; before_after.py compares pairs of pictures with them
distances.py                  FD, KID, CMMD, precision and recall; set_distances.py compares two sets with them
metrics.py                    one row of metrics per picture, averaged per prompt
statistics.py                 intervals and paired differences by Student's t
recipe.py, baseline.py        how a score was made, and a score as a file
gate.py                       is the model worse than the baseline?
report.py                     the result in words and rows; html_report.py, junit_report.py, markdown_report.py
"""
