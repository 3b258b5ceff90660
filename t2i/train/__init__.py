"""Training: from a recipe to a bundle.

the command     trainer.py trains the stages of a recipe in order; run.py is one call of it, plan.py its --dry-run;
                lock.py locks the folder, forget.py removes what is trained anew
a recipe        recipe.py: the tables that all have; recipes/: TOML files and how they are read; overrides.py: --set;
                compatibility.py: whether its stages fit together
a stage         objective.py: what a stage has to say of itself; objectives/: one file for each; encoders.py: the frozen
                text encoder that it reads; warm_start.py: first weights from elsewhere
the loop        loop.py takes the steps: optim.py, precision.py, streams.py (all randomness), state.py (checkpoints),
                log.py, sheets.py
processes       team.py: one or several that train together; part.py: the rows of a batch that each computes;
                sharding.py: a network cut into pieces (FSDP)
examples        pool.py and array_files.py: computed before the first step; masking.py: masks to repaint;
                prior_augment.py: embeddings redrawn by the prior; redrawn.py and refit.py: the inputs of the
                super-resolution U-Net; adversarial.py: the losses of a GAN
the result      export.py puts a stage into the bundle, card.py writes the card; open_clip_export.py: CLIP for open_clip
by themselves   personal/: `t2i train lora`; student/: `t2i train student`; both use the same loop
"""
