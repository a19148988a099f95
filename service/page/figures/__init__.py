"""The data of a job's figures: templates make tables from it, and scripts draw the tables."""
