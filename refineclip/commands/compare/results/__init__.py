"""What a comparison comes to: json, table, figure."""
