"""Scores of pictures, and the gate that compares them with a baseline.

a run           request.py, run.py: a whole `t2i score`; inputs.py: its prompts and pictures; draw_suite.py draws those
                of a suite; picture_files.py: pictures that are there, and their prompts
prompts         suite.py: what a picture of them must show; task_scores.py: scores by task (GenEval)
networks        extractors.py, extractor_options.py, preference.py (PickScore); features.py: what they find in each
                picture, feature_cache.py keeps it; labels.py: the likeliest of several texts
pixels          pixel_stats.py: sharpness, clipping, blank and duplicate pictures; pixel_metrics.py: PSNR, SSIM;
                sprite_fidelity.py: things beside their sprites; thumbnails.py: what a score keeps of a picture
metrics         metric_table.py: what each is; metrics.py: one row of them a picture, averaged per prompt
comparisons     before_after.py: pairs of pictures, pair_table.py shows them; distances.py: FD, KID, CMMD, precision and
                recall; set_distances.py: two sets by these
statistics      statistics.py: intervals and paired differences; gate.py: is the model worse than the baseline?
files           recipe.py: how a score was made; baseline.py: a score as a file
reports         report.py: the result in words and rows; html_report.py, junit_report.py, markdown_report.py
"""
