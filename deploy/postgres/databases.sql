-- One database for each service; `intake` is there already.
CREATE DATABASE spellcheck;
