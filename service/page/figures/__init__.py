"""What a job's figures show, as numbers: templates make tables of them, and scripts draw what the tables say."""
