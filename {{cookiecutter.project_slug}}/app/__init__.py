"""The package of {{ cookiecutter.__project_name }}."""

__title__ = "{{ cookiecutter.__project_name }}"  # fmt: skip
__version__ = "0.1.0"
