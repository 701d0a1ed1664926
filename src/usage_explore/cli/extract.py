import click


@click.command()
def extract() -> None:
    pass


def refresh_extract(connection: object, settings: object) -> None:
    pass
