"""*intake*: takes essays over HTTP and stores each with its event in one transaction."""
