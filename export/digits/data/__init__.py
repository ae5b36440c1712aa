"""From files and downloads to images and labels."""
