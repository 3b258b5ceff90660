"""Runs below the command line and the library: from checked requests to picture files, without typer or rich.

what is asked      settings.py, stage_options.py: the settings of a picture; parsing.py: how they are written; sweep.py:
                   several values of one; prompt_file.py: many prompts; inputs.py, masks.py: pictures and masks to read
one picture        job.py: what it is and the key of its content
an edit            edits.py: what makes a picture more than its prompt; sample_edit.py, vary.py, inpaint.py: one for
                   each command
the run            request.py: what a run asks of a command; runner.py draws and saves; engine.py and device.py load the
                   model; claims.py: what other runs are drawing; shard.py, cluster.py: many machines
what is told       reporter.py: the protocol; prompt_warnings.py, timing.py, faults.py
files              output_paths.py: names; output_index.py: what exists already; saving.py, manifests.py, sheets.py
whole commands     sample.py, upscale.py, find.py
drawing again      replay.py from a picture's record; replay_sources.py and replay_loading.py: what it needs besides
"""
