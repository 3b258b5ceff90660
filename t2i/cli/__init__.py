"""The command line: results on stdout, progress on stderr, one sentence and an exit code for a failure.

the program     app.py; options.py: options that several commands have; panels.py: help pages; streams.py;
                docs.py writes docs/cli.md
commands        sample.py (interactive.py), inpaint.py, vary.py, upscale.py, find.py, info.py, train.py, score.py
                (score_options.py, score_rules.py), serve.py, capabilities.py, models.py (model_page.py, pull.py,
                export.py)
what is told    ui.py; progress.py; show.py: pictures in a terminal; train_output.py, score_output.py
"""
