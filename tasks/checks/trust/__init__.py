"""Zero trust, cell by cell: who gets an answer, and which layer refuses everybody else."""
