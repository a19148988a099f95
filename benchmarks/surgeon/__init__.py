"""Two ways that the preset `best` does not take: the surgeon's rule for VO channels, and layers that give up unequal shares."""
