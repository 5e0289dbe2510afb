"""What a sweep shows: contact sheets and the tables of results/."""
