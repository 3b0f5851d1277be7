"""How an ablation is run: from a question's file to finished runs, one tidy table, paired comparisons and a report."""
