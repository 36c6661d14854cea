"""Display: tables and text for a terminal, and plots."""
