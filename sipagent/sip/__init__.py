"""The SIP user agent: messages, transactions, dialogs, registrations, and the engines that join them."""
