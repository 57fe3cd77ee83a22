"""``python -m agatha_ckpt``: the command line."""

from agatha_ckpt._cli.main import main

if __name__ == "__main__":
    main(prog_name="agatha-ckpt")
