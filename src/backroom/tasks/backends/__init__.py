"""What `TASKS` names: django.tasks on one side, records on the other."""
