"""`python -m benchmarks`. The workers import this module again, which must cost them nothing."""

if __name__ == "__main__":
    from benchmarks.command import main

    main(prog_name="python -m benchmarks")
