"""Services that a conversation uses: speech to text, end of turn, chat models, text to speech."""
