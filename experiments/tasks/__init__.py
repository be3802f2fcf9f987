"""What a run trains, and on what data: images and their classifier, or modules of the user's own for any task.

May import `results`, `training`, `tracking`. A `Task` is all that the runner knows of either.
"""
