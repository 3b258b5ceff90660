"""Models on disk: bundles of ours, checkpoints of others, and how a name finds them.

a bundle            bundle.py reads one; manifest.py: bundle.json; bundle_files.py, tensors.py: its files;
                    bundle_writing.py; shared_stages.py: stages that lie in another bundle
whether it is well  compatibility.py: its stages fit together; completeness.py: none is missing; verification.py: all
                    its bytes
any model           models.py: a bundle or open_model.py, a checkpoint in diffusers' layout; abilities.py: what can be
                    done with it; parts.py: what it is made of; load_options.py: how it is loaded
checkpoints         diffusers_folder.py, pipeline_classes.py, weights_files.py
LoRAs               lora.py: any file that --lora takes; personal.py: those that `t2i train lora` writes
names and places    registry.py, search_path.py; removal.py
the hub             hub_names.py, hub.py: what a repository holds; pull.py fetches; pulled.py: what is here
"""
