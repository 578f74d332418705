"""From the tables of the runs to groups, intervals, tables and summaries; nothing here draws, nor needs torch."""
