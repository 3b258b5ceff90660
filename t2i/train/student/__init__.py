"""`t2i train student`: a model that draws like its teacher in fewer evaluations.

trainer.py      the command: which stages get a student, one after the other
recipe.py       the numbers of the training
objective.py    what a student learns of its teacher
export.py       the bundle with the students in the place of their teachers
"""
