"""From the tables of the runs to groups, intervals and summaries; nothing here draws."""
